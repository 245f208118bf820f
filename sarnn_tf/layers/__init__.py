"""The layers that SARNN is made of, each one idea."""
