"""From a recipe and images to an encoder."""
