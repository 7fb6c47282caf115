;; A hundred mebibytes to begin with.
(module (memory 1600))
