;; Emacs with a remote language server, by eglot (part of Emacs 29 and newer), and with a
;; remote debugger, by the package dape. Append this to ~/.emacs.d/init.el.
;;
;; `make editor' serves both at these URLs.  They see only the files of their own
;; machine.  A program runs there, where it must have the same path.

(with-eval-after-load 'eglot
  ;; A process of this machine.  Some servers exit if theirs has no such process.
  (setq eglot-withhold-process-id t)
  (add-to-list 'eglot-server-programs
               '((python-mode python-ts-mode)
                 "chimirror-connect" "ws://127.0.0.1:30747/pylsp")))

(add-hook 'python-mode-hook #'eglot-ensure)
(add-hook 'python-ts-mode-hook #'eglot-ensure)

(with-eval-after-load 'dape
  (add-to-list 'dape-configs
               '(debugpy-remote
                 modes (python-mode python-ts-mode)
                 command "chimirror-connect"
                 command-args ("ws://127.0.0.1:30747/debugpy")
                 :type "python"
                 :request "launch"
                 :program dape-buffer-default
                 :cwd dape-cwd
                 ;; The other consoles start the program on this machine.
                 :console "internalConsole")))
