"""Bringing the topics of a recording in step: clock, pairing, joints, actions, cuts, and the report."""
