"""Edge: all in this room that knows Ray: controller, engines, gateway, and their applications."""
