"""Serving: any policy behind HTTP, and a folder of images through a policy.

The room knows policies only through the protocol of ``core.policy``; which module loads which model
is a table of names (``serving.registry``). ``serving.client`` needs nothing of this project but
``requests``, so nothing is imported here.
"""
