"""What the event log on NATS JetStream is made of (`penstock.events.nats_log`)."""
