"""What training minimises: losses of views, in two named parts."""
