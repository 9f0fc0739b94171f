"""Deployment: compose, systemd units, Kubernetes manifests, PM2, and the state of a process they ask for."""
