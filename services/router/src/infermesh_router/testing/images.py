"""Small images for tests, and the ways in which dialects send them."""

import base64

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
"""One pixel."""
ENCODED = base64.b64encode(PNG).decode()
DATA_URL = f"data:image/png;base64,{ENCODED}"
JPEG, WEBP, GIF = b"\xff\xd8\xff\xe0 jpeg", b"RIFF\x00\x00\x00\x00WEBPVP8 ", b"GIF89a gif"
"""Beginnings of files of the other kinds."""
