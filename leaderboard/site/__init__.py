"""The leaderboard: submissions ranked by protocol, as a static site."""
