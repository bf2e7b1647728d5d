"""The documentation as a site: the pages of docs/ and of the clients, and the code's own."""
