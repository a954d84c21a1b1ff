"""From the shards of an FSDP training (verl, EasyR1) to a Hugging Face model folder, one tensor at a time.

    shard_files   which files make a checkpoint
    reading       what a file holds, by an allow-list, memory-mapped
    layout        which part of a tensor a process held
    sources       whole tensors, read in blocks from all files
    adapters      LoRA: merged into the weights or kept apart
    model_names   what the model class wants, and the names its folder uses
    planning      which tensor goes into which file
    safetensors   writing one of these files
    manifest      what is written already, and making it complete at once
    integrity     the checksums of the shards
    companions    configuration, tokenizer, processor and profile
    loading       trying the result in transformers
    hub           model card and upload
    merging       all of it

utils/model_merger.py is the program.
"""

PARTIAL = ".merging"  # in the target folder: files that are not all there yet
MANIFEST = "merge_manifest.json"
