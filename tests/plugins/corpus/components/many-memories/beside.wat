;; Five of a megabyte.
(module (memory 16) (memory 16) (memory 16) (memory 16) (memory 16))
