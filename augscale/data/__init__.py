"""From folders, tables and files to square images in memory.

sources          every source of a study as one list of `ImageRecord`s (image_records)
  listing        the files of one source; folders (walking, exclusion), file_types (types of files)
  image_tables   rows of tables; table_files (cells), table_paths (named files), labels (meaning of cells)
  folder_labels  splits and labels from folders
cache            decoded images, built once; cache_keys (names of caches), cache_writer (decoding)
  images         one file to a square RGB array; formats (JPEG, PNG, TIFF, DICOM, ...)
  source_ranges  the values that become black and white in files of more than 8 bits; grey_levels
sanity           check of the decoded images; image_signs, pixel_signs, thumbnails, mask_names
facts            facts and lines about files that were not used
splits           patients, held-out images, seeded splits
retinal          the six labelled datasets of the paper: registry, preparation, check
"""
