"""The exact savings: less work, the same numbers."""
