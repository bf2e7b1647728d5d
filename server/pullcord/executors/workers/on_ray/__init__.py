"""Workers that Ray places: one actor each, with the room that its runs need.

Ray is spoken to by a helper process only, so that it can neither block nor crash the control
process.
"""
