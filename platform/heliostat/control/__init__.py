"""What a person does to a cluster and to a workspace; Ray is reached over its HTTP APIs only."""
