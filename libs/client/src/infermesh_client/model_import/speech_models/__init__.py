"""Imports models that turn speech into text: Whisper, in a folder of transformers or with weights of CTranslate2."""
