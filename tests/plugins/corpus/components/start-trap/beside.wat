;; Gives up as soon as there is an instance.
(module
  (func $give_up unreachable)
  (start $give_up))
