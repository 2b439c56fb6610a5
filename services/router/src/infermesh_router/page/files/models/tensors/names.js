// Names of classes. Models of tensors do not tell theirs, so they are COCO's, which most detectors were trained on.
const COCO = [
  "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light", "fire hydrant", "stop sign",
  "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
  "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard",
  "surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
  "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv",
  "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase",
  "scissors", "teddy bear", "hair drier", "toothbrush",
];
const GAPS = new Set([12, 26, 29, 30, 45, 66, 68, 69, 71, 83]); // ids of COCO's list of 1 to 90 that no class has
const IDS = [];
for (let id = 1; id <= 90; id++) if (!GAPS.has(id)) IDS.push(id);

const BY_ID = new Map(IDS.map((id, i) => [id, COCO[i]]));

export const LISTS = {
  numbers: { label: "numbers", of: () => undefined },
  coco80: { label: "COCO's, 0 to 79", of: (index) => COCO[index] },
  coco90: { label: "COCO's, 1 to 90", of: (index) => BY_ID.get(index) },
  coco89: { label: "COCO's, 0 to 89", of: (index) => BY_ID.get(index + 1) },
};

export const nameOf = (list, index) => LISTS[list].of(index) || `class ${index}`;

// The list that goes with so many classes.
export const listOf = (classes) => ({ 80: "coco80", 90: "coco89", 91: "coco90", 92: "coco90" })[classes] || "numbers";
