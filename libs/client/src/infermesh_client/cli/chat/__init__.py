"""`infermesh chat`: the conversation, the model it is with, and the terminal."""
