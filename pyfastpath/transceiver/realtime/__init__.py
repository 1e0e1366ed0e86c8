"""The Realtime conversation on the data channel: events, session object, items, responses, turns."""
