"""Import from and export to Hugging Face BART and mBART folders, without PyTorch or Transformers."""
