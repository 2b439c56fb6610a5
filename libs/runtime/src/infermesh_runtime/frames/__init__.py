"""What both ends of a stream of frames share."""
