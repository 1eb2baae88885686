#!/usr/bin/env bash
# From a checkpoint to a checked package, as the environment says. The action, the release and the container run it.
#
#   SOURCE       mirrors of the model's archive (https URLs, folders or files, with spaces), or `demo`; or else
#   CHECKPOINT   a folder, a .params file or an archive
#   MODEL, PRECISIONS, FORMATS, INPUT_SHAPE, LAYOUT   as the options of `sshtool` take them
#   OUTPUT_DIR   the folder of everything that is written
#   DATASET      a folder for `sshtool evaluate`, whose figures the model card then shows
#   GITHUB_STEP_SUMMARY, GITHUB_OUTPUT   files that GitHub reads; without them, the comparison lies in OUTPUT_DIR alone
set -euo pipefail

: "${MODEL:=ssh-mxnet}" "${PRECISIONS:=FP32,FP16}" "${FORMATS:=onnx,openvino}" "${LAYOUT:=flat}" "${OUTPUT_DIR:=artifacts}"
place=(--model "$MODEL" --output-dir "$OUTPUT_DIR")

case "${SOURCE:-}${CHECKPOINT:+ checkpoint}" in
    demo) sshtool download "${place[@]}" --demo ;;
    " checkpoint") ;;
    "" | *" checkpoint") echo "Set either SOURCE or CHECKPOINT; SOURCE=demo makes the demo" >&2; exit 2 ;;
    *) SSHTOOL_SOURCES=$SOURCE sshtool download "${place[@]}" ;;
esac

sshtool convert "${place[@]}" ${CHECKPOINT:+--checkpoint "$CHECKPOINT"} ${INPUT_SHAPE:+--input-shape "$INPUT_SHAPE"} \
    --precision "$PRECISIONS" --format "$FORMATS"
sshtool reference "${place[@]}" ${CHECKPOINT:+--checkpoint "$CHECKPOINT"} ${INPUT_SHAPE:+--input-shape "$INPUT_SHAPE"}
sshtool verify "${place[@]}" ${CHECKPOINT:+--checkpoint "$CHECKPOINT"} \
    --html "$OUTPUT_DIR/verification.html" --markdown "$OUTPUT_DIR/verification.md" || code=$?
cat "$OUTPUT_DIR/verification.md" >> "${GITHUB_STEP_SUMMARY:-/dev/null}" # also what differs
[ "${code:-0}" = 0 ] || exit "$code"

if [ -n "${DATASET:-}" ]; then
    sshtool evaluate "${place[@]}" --dataset "$DATASET" --json > "$OUTPUT_DIR/evaluation.json"
fi
sshtool package "${place[@]}" --layout "$LAYOUT" --archive zip ${DATASET:+--evaluation "$OUTPUT_DIR/evaluation.json"} \
    --json > "$OUTPUT_DIR/package.json" || { cat "$OUTPUT_DIR/package.json"; exit 1; }
archive=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["result"]["archive"])' < "$OUTPUT_DIR/package.json")
sshtool check "$archive"
echo "package: $archive"
printf 'package=%s\narchive=%s\n' "${archive%.zip}" "$archive" >> "${GITHUB_OUTPUT:-/dev/null}"
