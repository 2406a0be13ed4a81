"""Tasks and trained runs in the files of other tools and of the Hugging Face Hub."""
