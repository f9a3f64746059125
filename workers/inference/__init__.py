"""One call to Inference Providers: who offers a model, what is sent to them, what comes back."""
