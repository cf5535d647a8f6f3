"""The documentation: pages by hand, and what is written from the code when the site is built."""
