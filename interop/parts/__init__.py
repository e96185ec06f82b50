"""What the scenarios are made of: the gateway as a child process, sinks, senders, traces with a known fate."""
