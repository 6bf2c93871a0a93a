"""Which adapter, of which size, on which layers, gains most on a task, and what does it cost?"""

__version__ = "0.1.0"
