"""Teams: a leader that hands work to members."""

from pullcord.team.team import Team

__all__ = ["Team"]
