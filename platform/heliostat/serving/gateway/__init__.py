"""The HTTP face: who may ask, what is asked, and where it goes. Plain ASGI; knows no Ray."""
