"""The engine as programs use it: conversations, tools and forms in Python as over HTTP."""
