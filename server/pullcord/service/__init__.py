"""The verbs that all transports share. Nothing here knows how a call or an answer travels."""
