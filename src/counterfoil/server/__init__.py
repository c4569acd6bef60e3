"""The gateway: an ASGI application on uvicorn."""
