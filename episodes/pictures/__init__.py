"""What ``episodes.show`` draws: contact sheets and videos."""
