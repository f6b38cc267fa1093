"""Image quality without a reference: `no_reference` scores a picture by any of several names."""
