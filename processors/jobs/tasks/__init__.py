"""The functions of the task types that come with Tidegate, a file each; executors' children import them."""
