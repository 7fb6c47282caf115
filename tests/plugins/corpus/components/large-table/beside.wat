;; Five thousand elements to begin with.
(module (table 5000 funcref))
