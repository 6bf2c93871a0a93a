"""The bundled samples and the program that writes them."""
