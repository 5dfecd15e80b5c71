"""Pictures and video: reading, writing, cropping a portrait."""
