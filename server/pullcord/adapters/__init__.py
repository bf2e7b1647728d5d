"""Other people's runnables, each made into one of ours. An adapter decides nothing about runs."""
