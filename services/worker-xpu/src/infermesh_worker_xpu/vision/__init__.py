"""What a model sees of images: their pixels as its vision model reads them, and the features that it gives."""
