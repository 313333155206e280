"""From images to features: backbones, heads, and encoders of any origin."""
