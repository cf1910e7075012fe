"""The book: notebooks executed, pages built and checked."""
