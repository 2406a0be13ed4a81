"""Making a task with language models, stage by stage, and measuring what was made."""
