"""Teams: a leader that hands work to members."""

from pullcord.extras import needed

with needed("serve", "pullcord.team"):
    from pullcord.team.team import Team

__all__ = ["Team"]
