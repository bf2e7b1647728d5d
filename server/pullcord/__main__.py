"""`python -m pullcord` is `pullcord`. Nothing else lives here."""

from pullcord.cli import main

if __name__ == "__main__":
    main()
