;; Computes for ever as soon as there is an instance.
(module
  (func $spin (loop $again (br $again)))
  (start $spin))
