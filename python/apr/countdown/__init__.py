"""Countdown: reach a target from some numbers with + - * /, each used once. Its problems, traces, teacher and judge."""
