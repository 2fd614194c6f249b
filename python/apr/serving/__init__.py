"""Thread trees behind an OpenAI-compatible address: what a request may say, whose turn it is, the application, and the
server that runs it.
"""

from apr.serving.app import thread_server
from apr.serving.limits import ServingLimits

__all__ = ["ServingLimits", "thread_server"]
