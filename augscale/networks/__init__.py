"""Builds encoders, reads their weights from the files of many programs, and writes them.

The modules, starting from the entry point:

| subject | modules |
|---|---|
| any checkpoint as a frozen encoder | `checkpoints` (`load_checkpoint`) |
| the encoder and its speed-ups | `backbones`, `plain_vit`, `vit_on_gpu`, `stochastic_depth` |
| timm's pre-trained weights | `pretrained` |
| DINO's head; arithmetic of a device | `head`; `precision` |
| paths given by a user; reading files safely | `checkpoint_paths`; `tensor_files` |
| the network in a file | `find_network`, `network_roles` |
| other programs' tensor names to timm's | `foreign_names`, `torchvision_names` |
| the architecture of a state dict | `architectures`, `vit_architectures`, `timm_index` |
| copying tensors into a backbone | `loading` |
| facts besides the tensors | `checkpoint_facts` |
| batch norm statistics | `batch_norm` |
| our own files; files for other programs | `weights`; `export_weights` |

A file passes through `checkpoint_paths` (which file), `tensor_files` (its content), `find_network` (one network without
prefixes), `foreign_names` (timm's names), `architectures` (which model) and `loading` (checks and copies).
"""
