"""The command ``binderkit``. Needs the extra ``cli`` (typer, rich); nothing else imports it."""
